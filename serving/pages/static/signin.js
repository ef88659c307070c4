// Who comes by a link from another site arrives here without the strict cookie, though signed in: go on.

const next = new URLSearchParams(location.search).has("next");
if (next) {
  const answer = await fetch("/session", { cache: "no-store", headers: { Accept: "application/json" } });
  if (answer.ok) location.replace(document.getElementById("next").value);
}
