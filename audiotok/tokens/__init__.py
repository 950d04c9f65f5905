"""The .tok file: packed frames in checksummed blocks behind a JSON header; read with numpy alone.

    header  magic 6 | major 1 | minor 1 | length 4 | CRC 4 | JSON, `length` bytes
    run     identity 3, before the first block
    block   "BLK:"  | CRC 4 | first frame 4 | frames 4 | frames, packed, padded to a whole byte
    block   ...       every block of a run but its last holds the same number of frames,
    block   ...       `block_frames` or (in streams of `TokenSink`) fewer: the offset of any frame
    block   ...       is computed, not searched
    end     "END."  | CRC 4 | frames 4 | key 4 | samples 8 | original samples 8 | previous end 8

Numbers are little-endian. A CRC (zlib's CRC-32) covers every byte of its record but the tag and
itself; the header's covers magic to length too. Codes go frame after frame, within a frame
codebook after codebook, each in exactly ceil(log2 size) bits, lowest bit first.

Format 3 (major 3) is format 2 with latents in place of codes: the header's `sizes` is empty, its
`width` is the number of features of a frame of one stream, and `dtype` is "float32" or "float16",
the IEEE 754 type of each number. They go frame after frame, within a frame feature after feature. A
file of codes stays in format 2: an audiotok that knows no latents refuses those alone.

A record of one file is invalid in any other. The key of a run is the CRC of its identity, going on
from the header's CRC (later runs: from the key before); a block's CRC goes on from its run's key,
an end's from the header's CRC. The identity follows from the codes, so that the same codes are the
same bytes: it is the first 3 bytes of the CRC of all blocks' CRCs under an identity of 0, 4 bytes
each, and of samples and original samples, 8 bytes each. (That of an appended run is computed from
the codes appended first; a stream through a pipe, which must write it before its codes are known,
has a random one.) Format 1 (major 1), which is still read and appended to, has no identities: all
CRCs and keys begin at 0.

Appending never rewrites a block. It adds a run of blocks and an end that points to the previous
one, then turns the previous tag into "NEXT", which can no longer end a file:

    header | run 0 | block block block | NEXT | run 1 | block block | END.
                                         ^                            |
                                         +------- previous end -------+

Past the header a file costs its codes, 16 bytes a block (of at least 1 KiB of codes) and 43 bytes
a run: 8 codebooks of 1024 at 50 frames/s (4 kbps) cost 4.10 kbps or less from 10 s on, 4.2 at
3 s, 4.5 at 1 s. A stream of low latency has one frame a block: 16 bytes more for each.
"""

from audiotok._platform.optional import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
