// Makes elements of the page.

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [properties] attributes; functions become listeners of the event after "on"
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/**
 * An element whose style sheet reaches nothing outside it. The host's theme reaches in, by its variables.
 * @param {string} name for the class of the outer element
 * @param {string} styles
 * @returns {{ outer: HTMLDivElement, inner: ShadowRoot }}
 */
export function island(name, styles) {
  const outer = element("div", { class: `anonymize-faces-${name}` });
  const inner = outer.attachShadow({ mode: "open" });
  inner.append(element("style", {}, THEME + styles));
  return { outer, inner };
}

const THEME = `
:host {
  box-sizing: border-box;
  color: var(--input-text, #ddd);
  font: 12px/1.4 Inter, Arial, sans-serif;
  --accent: var(--p-primary-color, #64a5f5);
  --quiet: var(--descrip-text, #999);
  --line: var(--border-color, #4e4e4e);
  --field: var(--comfy-input-bg, #222);
  --alarm: var(--error-text, #ff5c5c);
  --good: #57b35f;
  --fair: #d9a441;
  --recognizability: #e8775d;
  --effects: #5ba0dc;
}
*, *::before, *::after { box-sizing: inherit; }
[hidden] { display: none !important; }
button {
  font: inherit; color: inherit; cursor: pointer; padding: 4px 10px; border-radius: 6px;
  background: var(--field); border: 1px solid var(--line);
}
button:hover:not(:disabled) { border-color: var(--accent); }
button:focus-visible, input:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 1px;
}
button:disabled { opacity: 0.45; cursor: default; }
`;
