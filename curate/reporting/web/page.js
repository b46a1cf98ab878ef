// What the page holds of the pairs (curate/reporting/embedded.py), and their texts: masked until a button is pressed.

"use strict";

const store = JSON.parse(document.getElementById("store").textContent);

/** The content of base64 of zlib's format, an ArrayBuffer. */
async function unpacked(base64) {
  const packed = atob(base64);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

async function unpackedList(base64) {
  return JSON.parse(new TextDecoder().decode(await unpacked(base64)));
}

/** A block of texts is unpacked when the first of them is asked for. */
const blocks = new Map();

/** Part 0, 1 or 2 of pair `number` among the texts: prompt, chosen, rejected. */
async function textOf(number, part) {
  const block = Math.floor(number / store.block);
  if (!blocks.has(block)) blocks.set(block, unpackedList(store.texts[block]));
  return (await blocks.get(block))[number % store.block][part];
}

// One listener for all buttons, those that come later too. A text is in the document only while it is shown.
document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-text]");
  if (!button) return;
  const box = document.getElementById(button.getAttribute("aria-controls"));
  const show = button.getAttribute("aria-expanded") === "false";
  button.setAttribute("aria-expanded", String(show));
  button.textContent = (show ? "Mask" : "Show") + button.textContent.slice("Show".length);
  let text = "masked";
  if (show) {
    try {
      text = await textOf(Number(button.dataset.text), Number(button.dataset.part));
    } catch {
      text = "This browser cannot unpack the text.";
    }
  }
  if (button.getAttribute("aria-expanded") !== String(show)) return; // pressed again meanwhile
  box.textContent = text;
  box.classList.toggle("masked", !show);
});
