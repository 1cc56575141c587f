// Tells whether the focused field of this page is known to be harmless. Two facts can leave a page:
// "harmless", again each second, and "not known to be harmless". No address, title or text does.
"use strict";

const HARMLESS_TYPES = new Set(["text", "search"]);
const SECRET_PURPOSE = /^(cc-|one-time-code$|current-password$|new-password$|webauthn$)/;
const SECRET_NAME = /pass|pwd|pin\b|otp|2fa|mfa|totp|cvc|cvv|card|iban|ssn|secret|token|security|code/i;
const MASKING_FONT = /security|password|dots|disc/i;
const wasSecret = new WeakSet();
let toldHarmless = false;
let watched = null;

function focusedField() {
  let field = document.activeElement;
  while (field && field.shadowRoot && field.shadowRoot.activeElement) {
    field = field.shadowRoot.activeElement;
  }
  return field;
}

function isMasked(field) {
  const style = getComputedStyle(field);
  const masking = style.getPropertyValue("-webkit-text-security");
  return (masking && masking !== "none") || MASKING_FONT.test(style.fontFamily);
}

function isSecret(field) {
  const purposes = (field.getAttribute("autocomplete") || "").toLowerCase().split(/\s+/);
  const names = ["id", "name", "placeholder", "aria-label"];
  return (
    field.type === "password" ||
    purposes.some((purpose) => SECRET_PURPOSE.test(purpose)) ||
    names.some((name) => SECRET_NAME.test(field.getAttribute(name) || "")) ||
    isMasked(field)
  );
}

function isHarmless(field) {
  if (!field || !document.hasFocus()) return false;
  if (isSecret(field)) wasSecret.add(field);
  // A password that is shown for a moment is one still.
  if (wasSecret.has(field)) return false;
  if (field instanceof HTMLInputElement) return HARMLESS_TYPES.has(field.type);
  return field instanceof HTMLTextAreaElement || field.isContentEditable;
}

function tell(sensitive) {
  toldHarmless = !sensitive;
  try {
    chrome.runtime.sendMessage({ sensitive }).catch(() => {});
  } catch {
    // The extension was updated or removed; its next copy speaks for this page.
  }
}

// `entered`: the focus came to a field. Another frame's field is told by that frame.
function look(entered) {
  const field = focusedField();
  const harmless = isHarmless(field);
  if (harmless) tell(false);
  else if (toldHarmless || (entered && document.hasFocus())) tell(true);
  if (field !== watched) {
    changes.disconnect();
    watched = field;
    if (field) changes.observe(field, { attributes: true });
  }
}

const changes = new MutationObserver(() => look(true));
addEventListener("focusin", () => look(true), true);
addEventListener("focusout", () => queueMicrotask(() => look(false)), true);
addEventListener("blur", () => look(false), true);
addEventListener("focus", () => look(true), true);
addEventListener("pagehide", () => toldHarmless && tell(true), true);
setInterval(() => toldHarmless && look(false), 1000);
look(true);
