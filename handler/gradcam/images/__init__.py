"""Image bytes to model input.

    geometry      Region and CropGeometry: where the model input lies on the image
    formats       supported formats; the error for a file of any other
    pixels        RawPixels: an image without a file format
    limits        limits on time, memory, pixels, JPEG scans, and TIFF segments
    orientation   EXIF orientation of Pillow images and of tensors
    decoding      decode (bytes → RGB image); baseline_jpeg (header check for GPU decoding)
    model_input   resize, crop, and normalize
    jpeg          JPEG markers, read without decoding
    nvjpeg        decoding and resizing on a GPU

`nvjpeg` may import all others; `decoding` all but `model_input` and `nvjpeg`. The rest import little (see
`tests/gradcam/test_imports.py`). From outside the package they import `gradcam.errors` and `gradcam.settings` only.
"""
