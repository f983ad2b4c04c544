"""The two C libraries of llama.cpp through ctypes: libllama (tokenizer) and libggml-base (blocks).

Only for the scripts that make fixtures; no test needs it. Both libraries come out of a plain
shared-library build of llama.cpp (``-DBUILD_SHARED_LIBS=ON``, targets ``llama`` and ``ggml-base``).
The layouts below are those of the llama.cpp inside the llama-cpp-python 0.3.36 source package.
"""

import ctypes
from pathlib import Path

import numpy as np

MAX_TOKENS = 1 << 18


class _Params(ctypes.Structure):
    """``struct llama_model_params``."""

    _fields_ = [
        ("devices", ctypes.c_void_p),
        ("tensor_buft_overrides", ctypes.c_void_p),
        ("n_gpu_layers", ctypes.c_int32),
        ("split_mode", ctypes.c_int),
        ("load_mode", ctypes.c_int),
        ("lazy_mode", ctypes.c_int),
        ("main_gpu", ctypes.c_int32),
        ("tensor_split", ctypes.c_void_p),
        ("progress_callback", ctypes.c_void_p),
        ("progress_callback_user_data", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p),
        ("vocab_only", ctypes.c_bool),
        ("check_tensors", ctypes.c_bool),
        ("use_extra_bufts", ctypes.c_bool),
        ("no_host", ctypes.c_bool),
        ("no_alloc", ctypes.c_bool),
        ("load_mtp", ctypes.c_bool),
    ]


class Tokenizer:
    """The tokenizer of one GGUF file, as llama.cpp runs it."""

    def __init__(self, libllama: Path, model: Path) -> None:
        """Load the vocabulary of ``model``."""
        self._lib = lib = ctypes.CDLL(str(libllama))
        lib.llama_model_default_params.restype = _Params
        lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _Params]
        lib.llama_model_load_from_file.restype = ctypes.c_void_p
        lib.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
        lib.llama_model_get_vocab.restype = ctypes.c_void_p
        lib.llama_tokenize.argtypes = [
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int32,
            ctypes.POINTER(ctypes.c_int32),
            ctypes.c_int32,
            ctypes.c_bool,
            ctypes.c_bool,
        ]
        lib.llama_detokenize.argtypes = [
            ctypes.c_void_p,
            ctypes.POINTER(ctypes.c_int32),
            ctypes.c_int32,
            ctypes.c_char_p,
            ctypes.c_int32,
            ctypes.c_bool,
            ctypes.c_bool,
        ]
        self._log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
            lambda _level, _text, _data: None
        )
        lib.llama_log_set(self._log, None)
        params = lib.llama_model_default_params()
        params.vocab_only = True
        handle = lib.llama_model_load_from_file(str(model).encode(), params)
        if not handle:
            raise RuntimeError(f"llama.cpp cannot load {model.name}")
        self._vocab = lib.llama_model_get_vocab(handle)

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of ``text``."""
        data = text.encode("utf-8")
        out = (ctypes.c_int32 * MAX_TOKENS)()
        n = self._lib.llama_tokenize(
            self._vocab, data, len(data), out, MAX_TOKENS, add_special, parse_special
        )
        if n < 0:
            raise RuntimeError(f"llama_tokenize failed: {n}")
        return list(out[:n])

    def decode(self, ids: list[int], special: bool = True) -> bytes:
        """The bytes of ``ids``; control tokens are written out when ``special``."""
        buffer = ctypes.create_string_buffer(64 * len(ids) + 1024)
        n = self._lib.llama_detokenize(
            self._vocab,
            (ctypes.c_int32 * len(ids))(*ids),
            len(ids),
            buffer,
            len(buffer),
            False,
            special,
        )
        if n < 0:
            raise RuntimeError(f"llama_detokenize failed: {n}")
        return buffer.raw[:n]


class _TypeTraits(ctypes.Structure):
    """``struct ggml_type_traits``."""

    _fields_ = [
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    ]


class Ggml:
    """Block formats, as ggml itself reads and writes them."""

    def __init__(self, libggml_base: Path) -> None:
        """Open the library."""
        self._lib = lib = ctypes.CDLL(str(libggml_base))
        lib.ggml_row_size.restype = ctypes.c_size_t
        lib.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
        lib.ggml_quantize_chunk.restype = ctypes.c_size_t
        lib.ggml_quantize_chunk.argtypes = [
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_void_p,
        ]
        lib.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
        lib.ggml_get_type_traits.argtypes = [ctypes.c_int]

    def quantize(self, rows: np.ndarray, ggml_type: int) -> np.ndarray:
        """``[R, N]`` float32 -> ``[R, bytes per row]`` uint8."""
        rows = np.ascontiguousarray(rows, np.float32)
        count, width = rows.shape
        out = np.zeros((count, self._lib.ggml_row_size(ggml_type, width)), np.uint8)
        written = self._lib.ggml_quantize_chunk(
            ggml_type, rows.ctypes.data, out.ctypes.data, 0, count, width, None
        )
        assert written == out.nbytes, (ggml_type, written, out.nbytes)
        return out

    def dequantize(self, data: np.ndarray, ggml_type: int, width: int) -> np.ndarray:
        """``[R, bytes per row]`` uint8 -> ``[R, N]`` float32, by ggml's ``to_float``."""
        data = np.ascontiguousarray(data)
        out = np.zeros((len(data), width), np.float32)
        to_float = self._lib.ggml_get_type_traits(ggml_type).contents.to_float
        if not to_float:  # F32 has none
            return data.view(np.float32).reshape(out.shape).copy()
        to_float(data.ctypes.data, out.ctypes.data, out.size)
        return out
