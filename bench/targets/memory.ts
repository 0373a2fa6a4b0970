// What a limiter holds in memory when it has seen very many subjects.
import { callers } from '../callers.ts';
import type { Rig } from '../rig.ts';
import { SUBJECT_PLACEHOLDER } from '../senders/load.ts';
import { send } from '../senders/send.ts';
import { type LoadSpec, loadOf, loadTarget } from './load-target.ts';
import { batchOf, domainOf } from './requests.ts';
import { BATCH_CONNECTIONS } from './servers.ts';
import type { Target } from './target.ts';
import { nameOfPolicy } from '../worlds.ts';

const SUBJECTS = 1_000_000;
const POLICIES = 100;

const SPEC: LoadSpec = {
  name: 'million-subjects',
  about: 'one limiter, 100 policies, when 1,000,000 consumers have asked',
  servers: ['limiter-hundred'],
  ask: (caller) => {
    const first = callers().findIndex(({ ip }) => ip === caller.ip);
    const domain = (index: number): string => domainOf(nameOfPolicy((first + index) % POLICIES));
    const consumer = `customer-${SUBJECT_PLACEHOLDER}`;
    return batchOf(Array.from({ length: POLICIES }, (_, index) => ({ domain: domain(index), consumer })));
  },
  subjects: SUBJECTS,
  decisionsPerRequest: POLICIES,
  connections: BATCH_CONNECTIONS,
  fragments: ['"reason":"WITHIN_LIMIT"'],
};

const target = loadTarget(SPEC);

export const MEMORY: Target = {
  ...target,
  prepare: async (rig) => {
    await target.prepare?.(rig);
    await askForAll(rig);
  },
};

/** Every consumer once; how fast that is says nothing, as nothing else runs beside it. */
async function askForAll(rig: Rig): Promise<void> {
  const load = loadOf(SPEC, await rig.server('limiter-hundred'));
  for (let firstSubject = 0; firstSubject < SUBJECTS;) {
    const { responses } = await send({ ...load, firstSubject, seconds: 5 }, rig.signal);
    firstSubject += responses * POLICIES;
  }
}
