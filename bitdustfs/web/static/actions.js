// What changes something: asked for once more where it cannot be taken back.

import { by, make, text } from "/dom.js";

const word = document.querySelector('meta[name="bitdust-action"]').content;

export async function post(path, body = {}) {
  const answer = await fetch(path, {
    method: "POST", credentials: "same-origin", body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", "X-Bitdust-Action": word },
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said;
}

// Carries it out; what goes wrong is said at the lower edge, until the next one.
export async function attempt(button, work) {
  button.disabled = true;
  text(by("refused"), "");
  try {
    await work();
  } catch (error) {
    text(by("refused"), error.message);
  } finally {
    button.disabled = false;
  }
}

// Resolves with what was typed into each of the fields ([label, what is there now]), or with null.
export function confirm(title, said, yes, fields = []) {
  const dialog = by("sure");
  text(by("sure-title"), title);
  text(by("sure-text"), said);
  text(by("sure-yes"), yes);
  const inputs = fields.map(([, now]) => make("input", { maxlength: 128, autocomplete: "off", spellcheck: "false", placeholder: now, keydown: entered }));
  by("sure-fields").replaceChildren(...fields.map(([label], index) => make("label", {}, `${label} `, inputs[index])));
  dialog.returnValue = "";
  dialog.showModal();
  (inputs[0] ?? by("sure-no")).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? inputs.map((input) => input.value.trim()) : null), { once: true });
  });
}

by("sure-no").addEventListener("click", () => by("sure").close(""));
by("sure-yes").addEventListener("click", () => by("sure").close("yes"));

function entered(event) {
  if (event.key !== "Enter") return;
  // else the rest of this key press goes to the button that opened the dialog, and opens it again
  event.preventDefault();
  by("sure").close("yes");
}
