// The command that sends the same request.

/**
 * @param {string} url that accepts images
 * @param {string} file name of the image
 * @param {Object<string, string>} options of the request
 * @returns {string} a command for a shell
 */
export function command(url, file, options) {
  const fields = Object.entries(options).map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`);
  return ["curl", `-F ${quoted(`data=@"${file.replace(/[\\"]/g, "\\$&")}"`)}`, ...fields, quoted(url)].join(" ");
}

/** A word, quoted if a shell would split or expand it. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
