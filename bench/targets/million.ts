// One limiter with 100 policies that very many subjects have asked: whether that makes it slower, and what it holds.
import type { Rig } from '../rig.ts';
import { Unmeasurable } from '../senders/load.ts';
import { send } from '../senders/send.ts';
import { countKeys } from '../stores.ts';
import { nameOfPolicy } from '../worlds.ts';
import { loadOf, loadTarget } from './load-target.ts';
import { type Ask, batchOf, domainOf } from './requests.ts';
import { BATCH_CONNECTIONS, limiter } from './servers.ts';
import type { Target } from './target.ts';

const SUBJECTS = 1_000_000;
const BATCH = 100;
const POLICY = nameOfPolicy(0);

const SPEC = limiter('subjects-1m', 'one rule, 1,000,000 consumers, 100 policies', {
  policy: POLICY,
  servers: ['limiter-million'],
  subjects: SUBJECTS,
  keysOfFirstRequest: 1,
});

const target = loadTarget(SPEC);

export const MILLION: Target = {
  ...target,
  prepare: async (rig) => {
    await target.prepare?.(rig);
    await askForAll(rig);
  },
};

/** Every consumer once, in batches; how fast that is says nothing, as nothing else runs beside it. */
async function askForAll(rig: Rig): Promise<void> {
  const domain = domainOf(POLICY);
  // Each check of a batch gets a number of its own.
  const ask: Ask = ({ consumer }) => batchOf(Array.from({ length: BATCH }, () => ({ domain, consumer })));
  const many = { ...SPEC, ask, decisionsPerRequest: BATCH, connections: BATCH_CONNECTIONS };
  const server = await rig.server('limiter-million');
  const load = { ...loadOf(many, server), seconds: 5 };
  for (let firstSubject = 0; firstSubject < SUBJECTS;) {
    const { responses } = await send({ ...load, firstSubject }, rig.signal);
    // The first request asks for the number behind the first.
    firstSubject += responses * BATCH;
  }
  const keys = await countKeys(server.store?.nodes ?? []);
  if (keys < SUBJECTS) throw new Unmeasurable(`${SPEC.name}: Redis holds ${keys} keys, not those of all ${SUBJECTS}`);
}
