"""The one table of tolerances: how far a number may be from what a test compares it with."""

import torch

# "value": the largest absolute error of an output, where the reference is above 1 relative to it. "gradient": the norm of
# the error relative to the norm of the reference. Both against float64: the error is ours alone.
# A 16-bit dtype computes in float32 and rounds its results once, half an ulp: 2^-9 (bfloat16), 2^-12 (float16).
TOLERANCE: dict[tuple[torch.dtype, str], float] = {
    (torch.float64, "value"): 1e-12,
    (torch.float64, "gradient"): 1e-12,
    (torch.float32, "value"): 2e-6,
    (torch.float32, "gradient"): 1e-5,
    (torch.bfloat16, "value"): 2**-8,
    (torch.bfloat16, "gradient"): 2**-8,
    (torch.float16, "value"): 2**-11,
    (torch.float16, "gradient"): 2**-11,
    (torch.complex128, "value"): 1e-12,
    (torch.complex128, "gradient"): 1e-12,
    (torch.complex64, "value"): 4e-6,
    (torch.complex64, "gradient"): 2e-5,
}
# A gradient of one or two elements may cancel to almost nothing, and then no float32 arithmetic has a small relative
# error. With cotangents of order 1 an element of order 0.1 is usual: a norm below this an element counts as this.
SMALLEST_ELEMENT = 0.05

# reference/ beside nn.LSTM, both in float64, element by element: only the order of their sums differs.
REFERENCE_VALUE = {"rtol": 0, "atol": 1e-13}
REFERENCE_GRADIENT = {"rtol": 1e-11, "atol": 1e-12}
# The equations of one step in float64, from the gates that a trace returns: a product and a sum are rounded once.
STEP_VALUE = {"rtol": 0, "atol": 1e-14}
# A slope of central differences with a step of 1e-6, which loses 10 of float64's 16 digits: an element's, of order 1, and a
# derivative along a direction, relative.
SLOPE = 1e-7
DIRECTIONAL_SLOPE = 1e-6
# float32 through another engine (ONNX Runtime, OpenVINO, AOTInductor), whose own error is in it, too.
EXPORTED = {"rtol": 0, "atol": 1e-5}
# ONNX Runtime's DynamicQuantizeLSTM, which rounds x and h to 8 bits at every step, beside float32 with the same weights:
# the norm of the difference, relative. Three layers have 0.009.
OF_8_BITS = 0.02
# float32 on a GPU whose cuDNN multiplies in TF32, relative norm against float64: factors have 11 bits, as in float16, and errors
# go through all steps of two layers. Not measured yet.
TF32 = 2**-8
# float32 of a call without gradients beside one with them: two ways to the same small layer.
INFERENCE = {"rtol": 0, "atol": 1e-6}
# bfloat16 cells computed by products of pairs: their results are near 1, where one rounding alone is 2^-8.
PAIRS_VALUE = 1.25 * 2**-8
# The absolute error of an LSTMCell's c under autocast, in tolerances: c, unlike h, is not below 1.
AUTOCAST_CELL = 2
# A loss under autocast to 16 bits, relative to float64's: a mean of squares of values of 8 bits.
AUTOCAST_LOSS = 0.02
# Losses of a few steps of training in float64, relative: beside the equations, and beside nn.LSTM with clipped gradients, where
# errors of a step are divided by a small norm.
TRAINED_LOSS = 1e-12
CLIPPED_LOSS = 1e-8
# Losses of training in float32, where errors of every step before are in each.
TRAINED_LOSS_FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}
# Where float32 itself is at its limit, nn.LSTM's own error is the yardstick. Ours is at most this many times as large: of one
# array (with a rounding of float32 on top), of all arrays of all shapes together, and in the median of five seeds.
OF_NN_LSTMS_ERROR = 2
FLOAT32_ROUNDING = 1e-7
OF_NN_LSTMS_ERRORS_TOGETHER = 1.5
OF_NN_LSTMS_MEDIAN_ERROR = 1.2
# Two float32 models of third-party packages: each side has an error of its own.
OF_BOTH_SIDES = 2
