// Files of what is shown.
import { loadFile } from "./data.js";

export const saveBlob = (blob, name) => {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  URL.revokeObjectURL(url);
};

export const saveAs = async (query, name, path) => saveBlob(await loadFile(query, path), name);
