// Runs inside the cluster, in a pod that plays an application. Asks for decisions over connections that stay open, as
// applications do, and prints what came of it as one line of JSON.
//
//   node caller.cjs ask  URL BODY TIMES            one after another; the answers
//   node caller.cjs load URL BODY FILE WORKERS PAUSE_MILLIS     until the file is there; counts by outcome, and failures
//   node caller.cjs watch URLS BODY MODE                        until each of the URLs says that mode; when each first did
const { existsSync } = require('node:fs');
const { Agent, request } = require('node:http');
const { setTimeout: pause } = require('node:timers/promises');

const agent = new Agent({ keepAlive: true });

function send(url, body) {
  return new Promise((resolve) => {
    const failed = (error) => resolve({ error: String(error.code ?? error.message) });
    const options = { method: 'POST', agent, timeout: 5_000, headers: { 'content-type': 'application/json' } };
    const sent = request(url, options, (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk)).on('error', failed);
      response.on('end', () => resolve({ http: response.statusCode, ...JSON.parse(text) }));
    });
    sent.on('error', failed).on('timeout', () => sent.destroy(new Error('TIMEOUT')));
    sent.end(body);
  });
}

async function ask(url, body, times) {
  const answers = [];
  for (let i = 0; i < times; i += 1) answers.push(await send(url, body));
  return answers;
}

async function load(url, body, { stopFile, workers, pauseMillis }) {
  const counts = {};
  const failures = [];
  const began = performance.now();
  const stop = new AbortController();
  const look = setInterval(() => existsSync(stopFile) && stop.abort(), 200);
  const work = async () => {
    while (!stop.signal.aborted) {
      const answer = await send(url, body);
      const outcome = answer.error ?? (answer.http === 200 ? answer.reason : `HTTP_${answer.http}`);
      counts[outcome] = (counts[outcome] ?? 0) + 1;
      if ((answer.error !== undefined || answer.http !== 200) && failures.length < 20)
        failures.push({ atMillis: Math.round(performance.now() - began), outcome });
      await pause(pauseMillis);
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  clearInterval(look);
  return { counts, failures };
}

/** Asks each URL again and again; the moments at which each said the mode for the first time. */
function watch(urls, body, mode) {
  return Promise.all(
    urls.map(async (url) => {
      while ((await send(url, body)).mode !== mode) await pause(10);
      return Date.now();
    }),
  );
}

const [how, url, body, amount, workers, pauseMillis] = process.argv.slice(2);
const work = {
  ask: () => ask(url, body, Number(amount)),
  load: () => load(url, body, { stopFile: amount, workers: Number(workers), pauseMillis: Number(pauseMillis) }),
  watch: () => watch(url.split(','), body, amount),
};
void work[how]()
  .then((result) => process.stdout.write(`${JSON.stringify(result)}\n`))
  .finally(() => process.exit());
