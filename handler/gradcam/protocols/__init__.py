"""Protocols: request bodies to requests, and results to replies.

    dispatch          which protocol a payload uses; the size limit of a reply
    single_image      one image: raw bytes, a form, or JSON
    kserve_v1         several images: KServe V1, JSON instances
    kserve_v2         several images: KServe V2 (Open Inference Protocol), and gRPC's ModelInfer
    kserve_inputs     input tensor of V2
    kserve_tensors    output tensors of V2
    kserve_binary     V2's binary form of tensors
    kserve_common     parsing and checks that both versions share
    content_encoding  compressed bodies

Only `dispatch` is imported from outside; it imports the protocols, which import `single_image`. No protocol imports
a server or the pipeline.
"""
