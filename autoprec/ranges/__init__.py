"""Ranges of tensors: streaming statistics, clipping ranges from them, and the scales that follow.

    values -> Histogram -> calibrate -> Range -> QuantParams -> integer codes
    weights -> weight_scales -> quantize_weight -> stored INT8 or FP8 codes

`histogram` collects values in one pass with bounded memory, `calibrators` chooses where to clip, `affine`
turns a range into a scale and a zero point and defines the exact arithmetic of ONNX's QuantizeLinear, and
`weights` does the same for constants, one scale per channel.
"""
