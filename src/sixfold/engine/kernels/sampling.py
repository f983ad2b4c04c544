"""The sampler's records, as NumPy dtypes of the C structs in native/sampler.h. Data only."""

import numpy as np

SAMPLE_PARAMS = np.dtype(
    [
        ("seed", "u8"), ("position", "u8"),
        ("temperature", "f4"), ("top_p", "f4"), ("min_p", "f4"),
        ("repetition_penalty", "f4"), ("frequency_penalty", "f4"), ("presence_penalty", "f4"),
        ("top_k", "i4"), ("num_logprobs", "i4"), ("num_bias", "i4"), ("num_banned", "i4"),
        ("num_prompt", "i4"), ("num_output", "i4"),
        ("bias_ids", "u8"), ("bias_values", "u8"), ("banned_ids", "u8"),
        ("prompt_ids", "u8"), ("output_ids", "u8"),
    ],
    align=True,
)  # fmt: skip
"""sampler.h's SixfoldSampleParams; pointers are addresses of arrays that the caller keeps."""

SAMPLE_RESULT = np.dtype(
    [
        ("token", "i4"), ("status", "i4"), ("rank", "i4"), ("num_top", "i4"), ("logprob", "f4"),
        ("top_ids", "i4", 64), ("top_logprobs", "f4", 64),
    ],
    align=True,
)  # fmt: skip
"""sampler.h's SixfoldSampleResult."""
