// The .tok file, as audiotok/tokfile describes it: what `audiotok encode` writes, and what it reads.

import { pack, unpack } from './socket.js';

const MAGIC = '\x93ATOK\n', MAJOR = 1, MINOR = 0, PREFIX = 16, BLOCK = 16, END = 40;
const CRCS = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc(bytes, from, to) {
  let sum = ~0;
  for (let i = from; i < to; i++) sum = CRCS[(sum ^ bytes[i]) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

const widths = (sizes) => sizes.map((size) => Math.ceil(Math.log2(size)));
const tag = (bytes, at) => String.fromCharCode(...bytes.subarray(at, at + 4));

/** The file of codes [codebooks][frames]; `about` is what the server says of its codec. */
export function write(about, codes, { samples, original_rate, original_samples, channels }) {
  const sizes = about.sizes.slice(0, codes.length), bits = widths(sizes);
  const frameBits = bits.reduce((a, b) => a + b, 0), frames = codes[0].length;
  const step = 2 ** Math.max(3, Math.ceil(Math.log2(8192 / frameBits)));
  const text = new TextEncoder().encode(JSON.stringify({
    codec: about.codec, fingerprint: about.fingerprint, sizes, sample_rate: about.sample_rate,
    frame_size: about.frame_size, original_rate, channels, streams: 1, block_frames: step,
  }));
  const blocks = [];
  for (let at = 0; at < frames; at += step) {
    blocks.push([at, pack(codes, bits, at, Math.min(frames, at + step))]);
  }
  const size = blocks.reduce((sum, [, body]) => sum + BLOCK + body.length, PREFIX + text.length + END);
  const bytes = new Uint8Array(size), view = new DataView(bytes.buffer);
  const put = (at, word) => [...word].forEach((c, i) => { bytes[at + i] = c.charCodeAt(0); });
  put(0, MAGIC);
  bytes[6] = MAJOR; bytes[7] = MINOR;
  view.setUint32(8, text.length, true);
  bytes.set(text, PREFIX);
  // The checksum stands between the two parts that it covers.
  const covered = new Uint8Array([...bytes.subarray(0, 12), ...text]);
  view.setUint32(12, crc(covered, 0, covered.length), true);
  let end = PREFIX + text.length;
  for (const [first, body] of blocks) {
    put(end, 'BLK:');
    view.setUint32(end + 8, first, true);
    view.setUint32(end + 12, Math.min(step, frames - first), true);
    bytes.set(body, end + BLOCK);
    view.setUint32(end + 4, crc(bytes, end + 8, end + BLOCK + body.length), true);
    end += BLOCK + body.length;
  }
  put(end, 'END.');
  [frames, samples, original_samples, 0].forEach((n, i) => view.setBigUint64(end + 8 + 8 * i, BigInt(n), true));
  view.setUint32(end + 4, crc(bytes, end + 8, end + END), true);
  return bytes;
}

export function isTok(bytes) {
  return bytes.length >= 6 && String.fromCharCode(...bytes.subarray(0, 6)) === MAGIC;
}

/** What a file says: {header, codes [codebooks][frames], samples, original_samples}. Throws an Error
 * of one line where it is cut short, changed, or more than this page plays. */
export function read(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const damaged = () => new Error('damaged or cut short: `audiotok verify` says where');
  if (bytes.length < PREFIX) throw damaged();
  if (bytes[6] > MAJOR) throw new Error(`written in format ${bytes[6]}, this page reads ${MAJOR}`);
  let at = PREFIX + view.getUint32(8, true), frames = 0;
  const covered = new Uint8Array([...bytes.subarray(0, 12), ...bytes.subarray(PREFIX, at)]);
  if (at > bytes.length || crc(covered, 0, covered.length) !== view.getUint32(12, true)) throw damaged();
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(PREFIX, at)));
  if (header.streams !== 1) throw new Error(`${header.streams} channels coded apart: this page plays one`);
  const bits = widths(header.sizes), frameBits = bits.reduce((a, b) => a + b, 0);
  const codes = header.sizes.map(() => []);
  for (;;) {
    const block = at + BLOCK <= bytes.length && tag(bytes, at) === 'BLK:';
    const count = block ? view.getUint32(at + 12, true) : 0;
    const stop = at + (block ? BLOCK + Math.ceil(count * frameBits / 8) : END);
    if (stop > bytes.length || crc(bytes, at + 8, stop) !== view.getUint32(at + 4, true)) throw damaged();
    if (!block) {
      const [held, samples, original_samples] = [0, 1, 2].map((i) => Number(view.getBigUint64(at + 8 + 8 * i, true)));
      if (held !== frames || !['END.', 'NEXT'].includes(tag(bytes, at))) throw damaged();
      if (tag(bytes, at) === 'END.' && stop === bytes.length) return { header, codes, samples, original_samples };
    } else {
      if (view.getUint32(at + 8, true) !== frames) throw damaged();
      unpack(bytes.subarray(at + BLOCK, stop), bits, count).forEach((row, k) => {
        for (const code of row) codes[k].push(code);
      });
      frames += count;
    }
    at = stop;
  }
}
