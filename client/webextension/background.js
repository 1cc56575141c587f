// Passes on what pages tell, to the agent on this machine and to nobody else: two booleans.
"use strict";

const AGENT = "org.tacitly.agent";
const RETRY_MS = 10000;
let port = null;
let retryAt = 0;

function agent() {
  if (!port && Date.now() >= retryAt) {
    retryAt = Date.now() + RETRY_MS;
    port = chrome.runtime.connectNative(AGENT);
    port.onDisconnect.addListener(() => {
      void chrome.runtime.lastError;
      port = null;
    });
  }
  return port;
}

function tell(sensitive, isPrivate) {
  const connected = agent();
  if (connected) connected.postMessage({ sensitive, private: isPrivate });
}

chrome.runtime.onMessage.addListener((message, sender) => {
  if (sender.id !== chrome.runtime.id || !sender.tab || !sender.tab.active) return;
  tell(message.sensitive !== false, sender.tab.incognito === true);
});

// Another window, or none of this browser's that an extension may see: nothing is known of it.
chrome.windows.onFocusChanged.addListener(() => tell(true, false));
chrome.tabs.onActivated.addListener(() => tell(true, false));
