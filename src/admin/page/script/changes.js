// What an operator changes. Each asks first; the server checks the rights, whatever this page shows.

const REASON = { name: "reason", label: "Reason", hint: "For the audit record.", maxlength: 200 };

async function done(text, reload) {
  dismiss();
  announce(text);
  await reload();
}

function newKey(consumer, reload) {
  ask({
    title: `New key for ${consumer}`,
    text: "The key is shown once, and only its digest is kept.",
    inputs: [
      { name: "expires", label: "Expires", placeholder: "90d", hint: "A duration or a time. Empty: in 90 days, or at the longest age that the policy allows." },
      { name: "scopes", label: "Scopes", hint: "Separated by spaces. Empty: all that the consumer has." },
      { name: "note", label: "Note", maxlength: 200 },
    ],
    verb: "Create the key",
    does: async ({ scopes, ...values }) => {
      const body = scopes ? { ...values, scopes: scopes.split(/\s+/) } : values;
      const made = await api("POST", `/v1/consumers/${part(consumer)}/keys`, body);
      reveal({ title: `Key ${made.id}`, text: "This is the only time that the key is shown.", secret: made.key });
      await reload();
    },
  });
}

/** What a partner can claim. */
const CREDENTIALS = [
  ["api_key", "API key"],
  ["client_secret", "client with a secret"],
  ["private_key_jwt", "client with a key of its own (private_key_jwt)"],
  ["certificate", "client with a certificate"],
];

function invite(consumer, reload) {
  ask({
    title: `Invite ${consumer}`,
    text: "Gives a code, with which the partner claims a credential once. The credential itself never passes through you.",
    inputs: [
      { name: "credential", label: "Credential", options: CREDENTIALS, hint: "All but an API key are clients of the token service." },
      { name: "expires", label: "Can be claimed for", placeholder: "24h", hint: "At most 30d." },
      { name: "key_lifetime", label: "Lifetime of the credential", placeholder: "90d" },
      { name: "url", label: "URL that the partner calls", placeholder: "https://api.example.com", hint: "For the sheet." },
      { name: "note", label: "Note", maxlength: 200 },
    ],
    verb: "Invite",
    does: async (values) => {
      const made = await api("POST", `/v1/consumers/${part(consumer)}/invitations`, values);
      reveal({ title: `Invitation ${made.id}`, text: "Send this code to the partner. It is shown only here.", secret: made.code, sheet: made.sheet });
      await reload();
    },
  });
}

function withdraw(id, reload) {
  ask({
    title: `Withdraw the invitation ${id}?`,
    text: "Its code cannot be claimed any longer.",
    verb: "Withdraw", danger: true,
    does: async () => {
      await api("DELETE", `/v1/invitations/${part(id)}`);
      await done("The invitation was withdrawn.", reload);
    },
  });
}

function suspend(consumer, reload) {
  ask({
    title: `Suspend ${consumer}?`,
    text: "All its requests are refused at once, whatever credential it sends, until it is resumed.",
    inputs: [{ name: "until", label: "Until", placeholder: "7d", hint: "A duration or a time. Empty: until it is resumed." }, REASON],
    verb: "Suspend", danger: true,
    does: async (values) => {
      await api("PUT", `/v1/consumers/${part(consumer)}/suspension`, values);
      await done(`${consumer} is suspended.`, reload);
    },
  });
}

function resume(consumer, reload) {
  ask({
    title: `Resume ${consumer}?`,
    text: "Its credentials are accepted again.",
    verb: "Resume",
    does: async () => {
      await api("DELETE", `/v1/consumers/${part(consumer)}/suspension`);
      await done(`${consumer} is no longer suspended.`, reload);
    },
  });
}

function revokeConsumer(consumer, reload) {
  ask({
    title: `Revoke all credentials of ${consumer}?`,
    text: "Every key and token of this consumer is refused from now on, and those it will get, until you undo the revocation. To stop it for a while, suspend it.",
    inputs: [REASON], typed: consumer,
    verb: "Revoke all", danger: true,
    does: async (values) => {
      await api("POST", "/v1/revocations", { consumer, ...values });
      await done(`The credentials of ${consumer} are revoked.`, reload);
    },
  });
}

function rotate(id, reload) {
  ask({
    title: `Rotate the key ${id}?`,
    text: "Makes the next key. The old one works until the overlap ends.",
    inputs: [{ name: "overlap", label: "Overlap", placeholder: "7d", hint: "How long both keys are accepted." }],
    verb: "Rotate",
    does: async (values) => {
      const made = await api("POST", `/v1/keys/${part(id)}/rotate`, values);
      // A key that is delivered to a vault is shown to nobody.
      if (made.key) {
        const text = `This is the only time that the key is shown. ${id} is accepted until ${made.replaced_expires}.`;
        reveal({ title: `Key ${made.id}`, text, secret: made.key });
      } else {
        dismiss();
        announce("The next key is being made and delivered.");
      }
      await reload();
    },
  });
}

function revokeKey(id, reload) {
  ask({
    title: `Revoke the key ${id}?`,
    text: "Requests with it are refused at once, on all nodes.",
    inputs: [REASON],
    verb: "Revoke", danger: true,
    does: async (values) => {
      await api("POST", "/v1/revocations", { key: id, ...values });
      await done(`The key ${id} is revoked.`, reload);
    },
  });
}

function revokeClient(id, reload) {
  ask({
    title: `Revoke the client ${id}?`,
    text: "It gets no more tokens, and those that it has are refused at once, on all nodes.",
    inputs: [REASON],
    verb: "Revoke", danger: true,
    does: async (values) => {
      await api("POST", "/v1/revocations", { subject: id, issuer: "token_service", ...values });
      await done(`The client ${id} is revoked.`, reload);
    },
  });
}

function undo(id, reload) {
  ask({
    title: "Undo this revocation?",
    text: `What it refused is accepted again: ${id}`,
    verb: "Undo", danger: true,
    does: async () => {
      await api("DELETE", `/v1/revocations/${part(id)}`);
      await done("The revocation was undone.", reload);
    },
  });
}

function resetUsage(consumer, reload) {
  ask({
    title: `Reset the usage of ${consumer}?`,
    text: "All its limits and quotas begin anew.",
    verb: "Reset", danger: true,
    does: async () => {
      await api("DELETE", `/v1/consumers/${part(consumer)}/usage`);
      await done(`The usage of ${consumer} was reset.`, reload);
    },
  });
}

function drain({ server, address, state }, reload) {
  const drained = state !== "drained";
  ask({
    title: drained ? `Take ${address ?? server} out of use?` : `Take ${address ?? server} into use again?`,
    text: drained ? "It gets no further requests; those in flight end." : "It gets requests again.",
    inputs: [REASON],
    verb: drained ? "Take out of use" : "Use again", danger: drained,
    does: async (values) => {
      await api("POST", "/v1/upstreams/drain", { server, ...(address ? { address } : {}), drained, ...values });
      await done(drained ? "It gets no further requests." : "It is in use again.", reload);
    },
  });
}

function reloadPolicy(reload) {
  ask({
    title: "Reload the policy?",
    text: "Every file that the policy names is read again. If there is an error, nothing changes.",
    verb: "Reload",
    does: async () => {
      const { outcome } = await api("POST", "/v1/policy/reload");
      await done(outcome === "loaded" ? "The new policy is in force." : "The policy has not changed.", reload);
    },
  });
}
