/* Allegro browser SDK. docs/integrating.md says how to use it. */
(function () {
  "use strict";

  var queue = window.allegro;
  if (queue && queue.purchase) return; // loaded twice

  var script = document.currentScript || document.querySelector("script[data-key]");
  var key = script && script.dataset.key;
  if (!key) throw new Error("Allegro: write the script tag with data-key=\"pk_…\".");
  var api = script.dataset.api || new URL(script.src).origin;
  var STORE = "allegro:" + key.slice(0, 12) + ":";

  // Before anything else: the token must not stay where analytics, a referrer or a bookmark find it.
  var here = new URL(location.href);
  var token = take("allegro_purchase_token");
  var canceled = take("allegro_purchase_canceled");
  if (token || canceled) history.replaceState(history.state, "", here.href);

  function take(name) {
    var value = here.searchParams.get(name);
    // Cut out of the text: searchParams.delete would rewrite the page's own parameters.
    here.search = here.search.replace(/^\?/, "").split("&").filter(function (pair) {
      return pair.split("=")[0] !== name;
    }).join("&");
    return value;
  }

  function AllegroApiError(status, body) {
    var error = body && body.error;
    this.name = "AllegroApiError";
    this.status = status; // 0: no answer at all
    this.body = body;
    this.message = (error && error.message) || "Allegro did not answer.";
    this.type = (error && error.type) || "network";
    this.stack = new Error(this.message).stack;
  }
  AllegroApiError.prototype = Object.create(Error.prototype);

  // --- what the browser keeps

  var memory = {};
  function store(name, value) {
    try {
      if (value === null) localStorage.removeItem(STORE + name);
      else localStorage.setItem(STORE + name, value);
      delete memory[name];
      return true;
    } catch (error) {
      memory[name] = value; // storage is off or full
      return false;
    }
  }
  function stored(name) {
    if (name in memory) return memory[name];
    try {
      return localStorage.getItem(STORE + name);
    } catch (error) {
      return null;
    }
  }

  // Proves that the browser that comes back is the one that went to pay. Only its hash leaves
  // before the return, so that reading the return address is not enough to be the buyer.
  async function verifierHash() {
    if (!window.crypto || !crypto.subtle) return ""; // a page without TLS
    var secret = stored("verifier") || hex(crypto.getRandomValues(new Uint8Array(32)));
    if (!store("verifier", secret)) return ""; // it would not be here on the way back
    return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret))));
  }
  function hex(bytes) {
    return Array.from(bytes, function (byte) { return byte.toString(16).padStart(2, "0"); }).join("");
  }

  // --- the API

  async function call(method, path, bearer, body, headers) {
    var response, answer = null;
    try {
      response = await fetch(api + path, {
        method: method,
        headers: Object.assign({ Authorization: "Bearer " + bearer, "Content-Type": "application/json" }, headers),
        body: body && JSON.stringify(body),
        credentials: "omit",
        referrerPolicy: "no-referrer",
      });
      answer = await response.json();
    } catch (error) {
      if (!response || response.ok) throw new AllegroApiError(0, null);
    }
    if (!response.ok) {
      var failure = new AllegroApiError(response.status, answer);
      failure.retryAfter = Number(response.headers.get("Retry-After"));
      throw failure;
    }
    return answer;
  }
  function dispatch(name, detail) {
    window.dispatchEvent(new CustomEvent("allegro:" + name, { detail: detail }));
  }
  function wait(seconds) {
    return new Promise(function (resolve) { setTimeout(resolve, seconds * 1000); });
  }

  // --- the member

  function claims(jwt) {
    try {
      var payload = (jwt || stored("jwt")).split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
      var bytes = Uint8Array.from(atob(payload), function (c) { return c.charCodeAt(0); });
      return JSON.parse(new TextDecoder().decode(bytes));
    } catch (error) {
      return null;
    }
  }
  function isFresh(margin) {
    var current = claims();
    return !!current && current.exp * 1000 > Date.now() + (margin || 5000);
  }
  function signIn(answer) {
    store("jwt", answer.jwt);
    store("refresh", answer.refresh_token);
    plan();
  }
  function signOut() {
    store("jwt", null);
    store("refresh", null);
  }
  var timer;
  function plan() {
    clearTimeout(timer);
    var current = claims();
    if (!current || !stored("refresh")) return;
    var left = current.exp * 1000 - Date.now() - 60000;
    timer = setTimeout(function () { freshJwt().catch(function () {}); }, Math.max(left, 1000));
  }
  // A refresh token is good for one use, so of several tabs only one may refresh; the others
  // then find what it brought.
  function alone(work) {
    return navigator.locks ? navigator.locks.request(STORE + "refresh", work) : work();
  }
  function freshJwt(seen) {
    return alone(async function () {
      if (isFresh(60000) && stored("jwt") !== seen) {
        plan();
        return stored("jwt");
      }
      var refresh = stored("refresh");
      if (!refresh) return null;
      try {
        signIn(await call("POST", "/api/members/token/refresh", key, { refresh_token: refresh }));
        await wait(0.3); // until the other tabs see what was stored; locks are faster
      } catch (error) {
        if (error.status !== 401) throw error;
        signOut();
      }
      return stored("jwt");
    });
  }

  var member = {
    /** The member's token, or null when nobody is signed in or it has run out. */
    jwt: function () { return isFresh() ? stored("jwt") : null; },
    /** Whether the token says so: for showing and hiding. What must be safe, check on your server. */
    hasProduct: function (slug) { return isFresh() && claims().products.indexOf(slug) >= 0; },
    /** What the member has at this moment, asked of the server. */
    entitlements: async function () {
      var ask = async function (jwt) {
        return jwt ? (await call("GET", "/api/entitlements?per_page=100", jwt)).data : [];
      };
      var jwt = member.jwt() || (await freshJwt());
      return ask(jwt).catch(async function (error) {
        if (error.status !== 401) throw error;
        return ask(await freshJwt(jwt));
      });
    },
  };

  // --- buying

  var opening = null;
  async function open(planId, returnUrl) {
    var back = returnUrl || location.href.split("#")[0];
    var body = { plan: planId, return_url: back, verifier_sha256: await verifierHash() };
    var jwt = member.jwt() || (await freshJwt().catch(function () { return null; }));
    var start = function (headers) { return call("POST", "/api/checkout/sessions", key, body, headers); };
    var opened = await start(jwt ? { "Allegro-Member": jwt } : {}).catch(function (error) {
      if (error.type !== "invalid_member_token") throw error;
      signOut(); // ended on the server; buying goes on without it
      return start({});
    });
    location.assign(opened.url);
  }

  function settle(state, detail) {
    purchase.validation = state;
    dispatch("purchase:" + state, detail);
  }

  async function exchange(token) {
    var announced = false;
    for (var failures = 0; ;) {
      var answer;
      try {
        answer = await call("POST", "/api/purchases/exchange", key, { token: token, verifier: stored("verifier") || "" });
      } catch (error) {
        var passing = error.status === 0 || error.status === 429 || error.status >= 500;
        if (!passing || ++failures > 30) {
          settle("failed", { reason: error.type, error: error });
          throw error;
        }
        await wait(error.retryAfter || Math.min(2 * failures, 15));
        continue;
      }
      failures = 0;
      if (answer.status === "processing") {
        if (!announced) dispatch("purchase:processing", { retryAfter: answer.retry_after });
        announced = true;
        await wait(answer.retry_after);
        continue;
      }
      if (answer.status === "completed") {
        var mine = claims() || {}, before = mine.authenticated && isFresh();
        var isProven = claims(answer.jwt).authenticated;
        // A link with somebody else's token costs no member the session.
        if (isProven || !mine.authenticated) signIn(answer);
        settle("completed", { purchase: answer.purchase, member: answer.member, entitlements: answer.entitlements });
        if (isProven && !before) dispatch("authenticated", { method: "purchase" });
      } else {
        settle("failed", { reason: answer.reason });
      }
      return answer;
    }
  }

  var purchase = {
    /** "completed", "failed", or null while there is nothing to say. */
    validation: null,
    /** Send the member to pay for a plan; back to returnUrl, or else to this page. */
    initiate: function (planId, returnUrl) {
      // A second click while the first is under way is the same purchase.
      opening = opening || open(planId, returnUrl).catch(function (error) {
        opening = null;
        throw error;
      });
      return opening;
    },
    exchangeToken: exchange,
  };
  // The page may come back from the browser's cache, by its back button.
  window.addEventListener("pageshow", function (event) { if (event.persisted) opening = null; });

  window.allegro = {
    push: function (callback) {
      try {
        callback(window.allegro);
      } catch (error) {
        console.error(error); // one broken callback must not keep the others waiting
      }
    },
    member: member,
    purchase: purchase,
    AllegroApiError: AllegroApiError,
  };
  plan();
  (Array.isArray(queue) ? queue : []).forEach(window.allegro.push);
  dispatch("ready");
  if (token) exchange(token).catch(function () {});
  else if (canceled) settle("failed", { reason: "canceled" });
})();
