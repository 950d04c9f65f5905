"""Packing of codes in as many bits as each needs, and back."""

from __future__ import annotations

import numpy as np


def pack(codes: np.ndarray, widths: list[int]) -> bytes:
    """Pack codes `[k f]` at `widths[k]` bits a code: frame after frame, lowest bit first."""
    rows, frames = codes.shape
    if frames < 8:  # short blocks of live streams: faster as one integer
        number = bit = 0
        for frame in codes.T.tolist():
            for code, width in zip(frame, widths, strict=True):
                number |= code << bit
                bit += width
        return number.to_bytes((bit + 7) // 8, "little")
    groups = -(
        -frames // 8
    )  # eight frames are a whole number of bytes, so groups are packed in parallel
    padded = np.zeros((rows, groups * 8), np.uint64)
    padded[:, :frames] = codes
    columns = padded.reshape(rows, groups, 8)
    words = np.zeros((sum(widths) // 8 + 2, groups), "<u8")
    bit = 0
    for frame in range(8):
        for row, width in enumerate(widths):
            word, shift = divmod(bit, 64)
            words[word] |= columns[row, :, frame] << np.uint64(shift)
            if shift + width > 64:
                words[word + 1] |= columns[row, :, frame] >> np.uint64(64 - shift)
            bit += width
    packed = np.ascontiguousarray(words.T).view(np.uint8)[:, : sum(widths)]
    return packed.tobytes()[: (frames * sum(widths) + 7) // 8]


def unpack(data: bytes, widths: list[int], frames: int) -> np.ndarray:
    """Unpack the codes `[k f]` int64 that `pack` packed.

    Args:
        data: the packed codes.
        widths: bits of a code in each row.
        frames: number of frames in the data.
    """
    data += bytes(4)
    # A view of the 32 bits that start at each byte; a code spans at most 25 + 7 of them.
    words = np.ndarray((len(data) - 3,), "<u4", buffer=data, strides=(1,))
    starts = np.cumsum([0, *widths[:-1]])[:, None] + np.arange(frames) * sum(widths)
    shifts = (starts & 7).astype(np.uint32)
    masks = (np.uint32(1) << np.array(widths, np.uint32)) - np.uint32(1)
    return ((words[starts >> 3] >> shifts) & masks[:, None]).astype(np.int64)
