"""The network, split at the target layer into a trunk and a head.

    parts          Trunk, Split, CutActivations (the values between the two), SplitError
    splitter       split: choose the method, verify the result, measure its costs
    fx_split       split method `fx`: torch.fx graphs of trunk and head
    hook_split     split method `hook`, for networks that torch.fx cannot trace
    verification   compare the parts with the network on random images
    costs          memory per replay, and the head's share of the time

`splitter` imports the others; `fx_split`, `verification` and `costs` import `parts`, which imports
`gradcam.network.layout`.
"""
