// The hosted return page: shows what client.js finds out about the purchase.
"use strict";

// Any other reason, such as an error of the server's, says nothing about the payment.
const REASONS = {
  payment_failed: "failed",
  canceled: "canceled",
  expired: "expired",
  token_expired: "old",
  token_used: "used",
  invalid_token: "elsewhere",
  member_disabled: "disabled",
};
const RETRY = ["processing", "elsewhere", "unreachable"];
// client.js asks on for minutes; people should hear of trouble sooner.
const PATIENCE = 15000;

// client.js takes the token out of the address; this script runs before it.
const token = new URL(location.href).searchParams.get("allegro_purchase_token");
const again = document.getElementById("again");

let doubt;

function show(state) {
  clearTimeout(doubt);
  for (const section of document.querySelectorAll("[data-state]")) {
    section.hidden = section.dataset.state !== state;
  }
  again.hidden = !(token && RETRY.includes(state));
  // Whoever reads by ear or by keyboard goes on from here.
  document.querySelector(`[data-state="${state}"] h1`).focus();
}

function expectAnswer() {
  show("confirming");
  doubt = setTimeout(() => show("unreachable"), PATIENCE);
}

function day(instant) {
  return new Date(instant).toLocaleDateString(undefined, { dateStyle: "long" });
}

function period({ starts_at: start, ends_at: end }) {
  if (!end) return "for good";
  // A renewal starts when the running period ends.
  return new Date(start) > new Date() ? `from ${day(start)} until ${day(end)}` : `until ${day(end)}`;
}

window.addEventListener("allegro:purchase:completed", ({ detail }) => {
  document.getElementById("bought").textContent = detail.purchase.name;
  document.getElementById("entitlements").replaceChildren(
    ...detail.entitlements.map((entitlement) => {
      const item = document.createElement("li");
      const end = document.createElement("span");
      end.textContent = period(entitlement);
      item.append(entitlement.product_name, end);
      return item;
    }),
  );
  document.getElementById("account").textContent = detail.member.email ? `For ${detail.member.email}` : "";
  show("completed");
});
window.addEventListener("allegro:purchase:processing", () => show("processing"));
window.addEventListener("allegro:purchase:failed", ({ detail }) => show(REASONS[detail.reason] || "unreachable"));
window.addEventListener("allegro:ready", () => {
  const canceled = new URL(location.href).searchParams.has("allegro_purchase_canceled");
  if (!token && !canceled && !window.allegro.purchase.validation) show("unknown");
});
again.addEventListener("click", () => {
  expectAnswer();
  window.allegro.purchase.exchangeToken(token).catch(() => {});
});
if (token) expectAnswer();
