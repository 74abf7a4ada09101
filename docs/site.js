// A table that is wider than the page scrolls: reachable by keyboard, too. The theme wraps tables after it has shown the page.
new MutationObserver(() => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) wrap.tabIndex = 0;
}).observe(document.body, { childList: true, subtree: true });
