// Files come by button, drop, or paste, one after another; what is refused is said beside where it came in.

import * as server from "./server.js";
import { find, showErrors } from "./elements.js";
import { changed, state } from "./state.js";

const MEGABYTE = 2 ** 20;

/** A section of the page that takes in files as `supports` or `queries`. */
export class Intake {
  constructor(section, kind, added) {
    this.kind = kind;
    this.added = added;
    this.section = section;
    this.errors = find(".errors", section);
    this.waiting = 0;
    for (const input of section.querySelectorAll("input[type=file]")) {
      input.addEventListener("change", () => {
        void this.take([...input.files]);
        input.value = "";
      });
    }
    find(".choose", section).addEventListener("click", () => find("input:not(.folder)", section).click());
    find(".choose-folder", section)?.addEventListener("click", () => find("input.folder", section).click());
  }

  /** Take dropped things anywhere on an element. */
  dropOn(element) {
    element.addEventListener("dragover", (event) => {
      event.preventDefault();
      this.section.classList.add("dropping");
    });
    element.addEventListener("dragleave", () => this.section.classList.remove("dropping"));
    element.addEventListener("drop", async (event) => {
      event.preventDefault();
      this.section.classList.remove("dropping");
      await this.take(await droppedFiles(event.dataTransfer));
    });
  }

  /** Send files to the server, one by one. */
  async take(files) {
    const complaints = [];
    const images = files.filter((file) => !file.name.startsWith("."));
    this.waiting += images.length;
    for (const file of images) {
      changed();
      try {
        const known = state[this.kind].length;
        const most = state.limits[this.kind];
        if (known >= most) throw new Error(`${file.name}: left out, ${most} are the most; remove one first`);
        if (file.size > state.limits.file_bytes) {
          throw new Error(`${file.name}: larger than ${state.limits.file_bytes / MEGABYTE} MB; shrink the image`);
        }
        const image = await server.addImage(this.kind, file);
        image.url = await server.pictureUrl(this.kind, image.id);
        image.revision = 0;
        state[this.kind].push(image);
        if (image.warning) complaints.push(image.warning);
        this.added(image, images.length);
      } catch (error) {
        complaints.push(error.message);
        if (error.code === 410) break;
      } finally {
        this.waiting -= 1;
      }
    }
    showErrors(this.errors, shortened(complaints));
    changed();
  }
}

/** The first complaints, and how many there are beside them. */
function shortened(complaints, most = 5) {
  if (complaints.length <= most) return complaints;
  return [...complaints.slice(0, most), `and ${complaints.length - most} more files`];
}

/** All files that were dropped, those in folders too. */
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const nested = await Promise.all(entries.map(filesBelow));
  return nested.flat();
}

async function filesBelow(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  // A reader gives a hundred at a time, and then none.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  found.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  return (await Promise.all(found.map(filesBelow))).flat();
}
