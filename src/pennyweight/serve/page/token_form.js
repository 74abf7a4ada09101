// The form that asks for the token, on every page that needs one.

import { byId, say } from "/static/dom.js";
import { hasToken, setToken, takeTokenFromAddress } from "/static/server.js";

/**
 * Runs `start()`, and again with each token that is given while the server answers 401.
 *
 * Gives `refused(error)`, to be called with any later error: it asks anew after a 401 and says whether it did.
 */
export function withToken(start) {
  const form = byId("token-form"), input = byId("token"), signOut = byId("sign-out");

  function askFor(words) {
    form.hidden = false;
    say(byId("token-problem"), words);
    input.value = "";
    input.focus();
  }

  function refused(error) {
    if (error.status !== 401) return false;
    const words = hasToken() ? error.message : "";
    setToken(null);
    signOut.hidden = true;
    askFor(words);
    return true;
  }

  async function attempt() {
    try {
      await start();
      form.hidden = true;
      signOut.hidden = !hasToken();
    } catch (error) {
      if (!refused(error)) say(byId("start-problem"), error.message);
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(input.value.trim());
    say(byId("token-problem"), "");
    say(byId("start-problem"), "");
    attempt();
  });
  signOut.addEventListener("click", () => {
    setToken(null);
    location.reload();
  });
  addEventListener("hashchange", () => {
    if (!new URLSearchParams(location.hash.slice(1)).has("token")) return;
    takeTokenFromAddress();
    attempt();
  });

  takeTokenFromAddress();
  attempt();
  return refused;
}
