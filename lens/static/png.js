// Text in PNG files: chunks of type iTXt, section 11.3.3.4 of the PNG specification.

// Signature of 8 bytes, then IHDR: length, type, 13 bytes of data, checksum.
const HEADER_BYTES = 8 + 25;

/**
 * A PNG with text added, in chunks of type iTXt.
 *
 * @param {Blob} png
 * @param {Object<string, string>} entries texts by keyword; keywords have 1 to 79 Latin characters
 * @returns {Blob}
 */
export function withText(png, entries) {
  const chunks = Object.entries(entries).map(([keyword, content]) => {
    // After the keyword: not compressed, no language, no translated keyword.
    return chunk(new TextEncoder().encode(`iTXt${keyword}\0\0\0\0\0${content}`));
  });
  return new Blob([png.slice(0, HEADER_BYTES), ...chunks, png.slice(HEADER_BYTES)], { type: "image/png" });
}

/** A chunk: length of its data, type and data, checksum. */
function chunk(typeAndData) {
  const size = typeAndData.length;
  const bytes = new Uint8Array(size + 8);
  bytes.set(typeAndData, 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, size - 4);
  view.setUint32(size + 4, crc32(typeAndData));
  return bytes;
}

/** CRC-32 with the polynomial of PNG, reflected. */
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
