// What an integrator writes: three listeners and a click.
"use strict";

const notice = document.getElementById("notice");
function say(text) {
  notice.textContent = text;
  notice.hidden = false;
}
const REASONS = {
  canceled: "You canceled. Nothing was charged.",
  payment_failed: "The payment failed. You can try another way to pay.",
  expired: "The checkout has expired. You can start again.",
  invalid_token: "Open this in the browser you paid with. If you paid, the purchase is recorded.",
};

async function refresh() {
  try {
    await showMember(window.allegro.member);
  } catch (error) {
    say(error.message);
  }
}

async function showMember(member) {
  const entitlements = await member.entitlements();
  document.getElementById("member").textContent = member.jwt() ? "You are signed in." : "You are not signed in.";
  const list = document.getElementById("entitlements");
  const items = entitlements.map((entitlement) => {
    const item = document.createElement("li");
    const end = entitlement.ends_at ? new Date(entitlement.ends_at).toLocaleDateString("en", { dateStyle: "long" }) : "";
    item.textContent = entitlement.product_name + (end ? `, until ${end}` : ", for good");
    item.dataset.product = entitlement.product;
    return item;
  });
  if (items.length) list.replaceChildren(...items);
}

window.addEventListener("allegro:purchase:processing", () => say("Your payment is on its way. You can leave this page."));
window.addEventListener("allegro:purchase:completed", ({ detail }) => {
  say(`Thank you! You bought ${detail.purchase.name}.`);
  refresh();
});
window.addEventListener("allegro:purchase:failed", ({ detail }) => say(REASONS[detail.reason] || "Something went wrong."));
window.allegro = window.allegro || [];
window.allegro.push(() => refresh());

for (const button of document.querySelectorAll("button[data-plan]")) {
  button.addEventListener("click", async () => {
    button.setAttribute("aria-busy", "true");
    try {
      await window.allegro.purchase.initiate(button.dataset.plan);
    } catch (error) {
      say(error.message);
    }
    button.removeAttribute("aria-busy");
  });
}
