// The command that asks the same.

/**
 * @param {string} address that takes pictures
 * @param {string} file name of the picture
 * @param {Object<string, string>} options of the request
 * @returns {string} a command for a shell
 */
export function command(address, file, options) {
  const fields = Object.entries(options).map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`);
  return ["curl", `-F ${quoted(`data=@"${file.replace(/[\\"]/g, "\\$&")}"`)}`, ...fields, quoted(address)].join(" ");
}

/** A word that no shell takes apart. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
