// The operations page: looks at the service again and again, and lets each part show what it is about.

import { find, moment } from "./dom.js";
import { Acts } from "./operate-acts.js";
import { showEvidence } from "./operate-evidence.js";
import { Feed } from "./operate-feed.js";
import { JobList } from "./operate-jobs.js";
import { showLineage } from "./operate-lineage.js";
import { AuditLog, showEngines, showLearning } from "./operate-lists.js";
import { showRelease, showRules, showWaiting } from "./operate-release.js";
import { openVersion, showPolicies, showRewards } from "./operate-versions.js";

const TOLD = 8000; // milliseconds

const feed = new Feed(show, fail);
const acts = new Acts(feed, tell);
const jobs = new JobList(find("#jobs"), find("#older-jobs"), acts);
const audit = new AuditLog(find("#audit"), find("#older-actions"));
const open = (version) => openVersion(version, feed.known, acts);
let telling = null;

function show(known) {
  showRelease(find("#release"), known, acts);
  showEvidence(find("#evidence"), known);
  showWaiting(find("#waiting"), known, acts);
  showRules(find("#rules"), known, acts);
  showLearning(find("#learning"), known, acts);
  showLineage(find("#lineage"), known, open);
  showPolicies(find("#policies"), known, open);
  showRewards(find("#rewards"), known, open);
  jobs.show(known);
  showEngines(find("#engines"), known);
  audit.show(known.audit);
  find("#trouble").hidden = true;
  say(`Live, as of ${moment(Date.now() / 1000)}`, true);
  const asks = known.release.trial?.asks;
  document.title = `${asks ? `${known.release.trial.version} asks · ` : ""}Operations · Thumbwheel`;
}

function fail(error) {
  find("#trouble p").textContent = `Not up to date. ${error.message}`;
  find("#trouble").hidden = false;
  say("Not live", false);
}

function say(text, live) {
  const mark = find("#live");
  mark.textContent = text;
  mark.classList.toggle("on", live);
}

// That something was done, for as long as it takes to read.
function tell(sentence) {
  clearTimeout(telling);
  const told = find("#told");
  told.textContent = sentence;
  telling = setTimeout(() => (told.textContent = ""), TOLD);
}

find("#trouble button").addEventListener("click", () => feed.look());
find("#start").addEventListener("click", () => acts.start());
feed.look();
