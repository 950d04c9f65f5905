// The .tok file, as audiotok/tokens describes it: what `audiotok encode` writes, and what it reads.

import { pack, unpack } from './socket.js';

const MAGIC = '\x93ATOK\n', MAJOR = 2, MINOR = 0, PREFIX = 16, RUN = 3, BLOCK = 16, END = 40;
const CRCS = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** CRC-32 of bytes, going on from that of others. */
function crc(bytes, from, to, before = 0) {
  let sum = ~before;
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
  const size = blocks.reduce((sum, [, body]) => sum + BLOCK + body.length, PREFIX + text.length + RUN + END);
  const bytes = new Uint8Array(size), view = new DataView(bytes.buffer);
  const put = (at, word) => [...word].forEach((c, i) => { bytes[at + i] = c.charCodeAt(0); });
  put(0, MAGIC);
  bytes[6] = MAJOR; bytes[7] = MINOR;
  view.setUint32(8, text.length, true);
  bytes.set(text, PREFIX);
  // The checksum stands between the two parts that it covers.
  const covered = new Uint8Array([...bytes.subarray(0, 12), ...text]);
  const seed = crc(covered, 0, covered.length);
  view.setUint32(12, seed, true);
  let end = PREFIX + text.length + RUN;
  const first = end;
  for (const [first, body] of blocks) {
    put(end, 'BLK:');
    view.setUint32(end + 8, first, true);
    view.setUint32(end + 12, Math.min(step, frames - first), true);
    bytes.set(body, end + BLOCK);
    end += BLOCK + body.length;
  }
  const lock = (key) => {  // the checksums of all blocks
    let at = first;
    return blocks.map(([, body]) => {
      const stop = at + BLOCK + body.length, sum = crc(bytes, at + 8, stop, key);
      view.setUint32(at + 4, sum, true);
      at = stop;
      return sum;
    });
  };
  const told = new DataView(new ArrayBuffer(4 * blocks.length + 16));
  const run = () => crc(bytes, first - RUN, first, seed);
  lock(run()).forEach((sum, i) => told.setUint32(4 * i, sum, true));
  [samples, original_samples].forEach((n, i) => told.setBigUint64(4 * blocks.length + 8 * i, BigInt(n), true));
  const identity = crc(new Uint8Array(told.buffer), 0, told.byteLength);
  [0, 8, 16].forEach((shift, i) => { bytes[first - RUN + i] = identity >>> shift; });
  const key = run();
  lock(key);
  put(end, 'END.');
  view.setUint32(end + 8, frames, true);
  view.setUint32(end + 12, key, true);
  [samples, original_samples, 0].forEach((n, i) => view.setBigUint64(end + 16 + 8 * i, BigInt(n), true));
  view.setUint32(end + 4, crc(bytes, end + 8, end + END, seed), true);
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
  const sum = view.getUint32(12, true), runs = bytes[6] > 1;  // format 1 has no identities
  if (at > bytes.length || crc(covered, 0, covered.length) !== sum) throw damaged();
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(PREFIX, at)));
  if (header.streams !== 1) throw new Error(`${header.streams} channels coded apart: this page plays one`);
  const bits = widths(header.sizes), frameBits = bits.reduce((a, b) => a + b, 0);
  const codes = header.sizes.map(() => []), seed = runs ? sum : 0;
  let key = seed;
  const run = () => {
    if (!runs) return;
    key = crc(bytes, at, at + RUN, key);
    at += RUN;
  };
  run();
  for (;;) {
    const block = at + BLOCK <= bytes.length && tag(bytes, at) === 'BLK:';
    const count = block ? view.getUint32(at + 12, true) : 0;
    const stop = at + (block ? BLOCK + Math.ceil(count * frameBits / 8) : END);
    if (stop > bytes.length) throw damaged();
    if (crc(bytes, at + 8, stop, block ? key : seed) !== view.getUint32(at + 4, true)) throw damaged();
    if (!block) {
      const [held, whose] = [8, 12].map((i) => view.getUint32(at + i, true));
      const [samples, original_samples] = [16, 24].map((i) => Number(view.getBigUint64(at + i, true)));
      if (held !== frames || whose !== key || !['END.', 'NEXT'].includes(tag(bytes, at))) throw damaged();
      if (tag(bytes, at) === 'END.' && stop === bytes.length) return { header, codes, samples, original_samples };
    } else {
      if (view.getUint32(at + 8, true) !== frames) throw damaged();
      unpack(bytes.subarray(at + BLOCK, stop), bits, count).forEach((row, k) => {
        for (const code of row) codes[k].push(code);
      });
      frames += count;
    }
    at = stop;
    if (!block) run();
  }
}
