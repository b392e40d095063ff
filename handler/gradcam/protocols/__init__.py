"""Protocols: request bodies to requests, and results to replies.

    dispatch        which protocol a payload uses; the size limit of a reply
    single_image    one image: raw bytes, a form, or JSON
    kserve_v1       several images: KServe V1, JSON instances
    kserve_v2       several images: KServe V2 (Open Inference Protocol), and gRPC's ModelInfer
    kserve_tensors  output tensors of V2
    kserve_common   parsing and checks that both versions share

Only `dispatch` is imported from outside; it imports the protocols, which import `single_image`. No protocol imports
a server or the pipeline.
"""
