// A file of what is shown.
import { loadFile } from "./data.js";

export const saveAs = async (query, name) => {
  const url = URL.createObjectURL(await loadFile(query));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  URL.revokeObjectURL(url);
};
