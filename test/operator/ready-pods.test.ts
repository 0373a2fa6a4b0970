import { describe, expect, it } from 'vitest';
import { ReadyPods } from '../../operator/ready-pods.ts';
import type { PodReport } from '../../store/acknowledgements.ts';

const NOW_MICROS = 1_790_000_000_000_000;
const identity = { incarnation: 'one', epoch: 3, revision: 9, manifest: 'm9' };

const aPod = (pod: string, silentSeconds = 1): PodReport => ({
  acknowledgement: { pod, instance: 'i', identity, formats: [1], keySequence: 0 },
  heartbeatMicros: NOW_MICROS - silentSeconds * 1_000_000,
});
const at = (nowMillis: number) => ({ nowMicros: NOW_MICROS, nowMillis });

/** `name` of each pod, with `?` if it says nothing and `~` if it is only passing. */
const shown = (pods: ReturnType<ReadyPods['view']>): string[] =>
  pods.map(
    ({ acknowledgement, isPassing }) =>
      `${acknowledgement.pod}${acknowledgement.identity === undefined ? '?' : ''}${isPassing ? '~' : ''}`,
  );

describe('the pods that have to enforce', () => {
  it('are those heard of lately where nothing is known of Kubernetes', () => {
    expect(shown(new ReadyPods().view([aPod('a'), aPod('b', 9)], undefined, at(0)))).toEqual(['a']);
  });

  it('are those that requests are sent to, heard of or not, and no others', () => {
    const pods = new ReadyPods().view([aPod('a'), aPod('not-ready')], new Set(['a', 'mute']), at(0));
    expect(shown(pods)).toEqual(['a', 'mute?~']);
  });

  it('are silent for a while before that counts, each by its own time', () => {
    const ready = new ReadyPods(5_000);
    const look = (millis: number, ...heard: PodReport[]): string[] =>
      shown(ready.view(heard, new Set(['a', 'b']), at(millis)));
    expect(look(0, aPod('b'))).toEqual(['a?~', 'b']);
    expect(look(2_500)).toEqual(['a?~', 'b?~']);
    expect(look(4_999)).toEqual(['a?~', 'b?~']);
    expect(look(5_000)).toEqual(['a?', 'b?~']);
    expect(look(6_000, aPod('a'))).toEqual(['a', 'b?~']);
    expect(look(8_000)).toEqual(['a?~', 'b?']);
    expect(look(10_999)).toEqual(['a?~', 'b?']);
    expect(look(13_000)).toEqual(['a?', 'b?']);
  });

  it('have been silent since their last word, unless they took their leave or nobody listened', () => {
    const ready = new ReadyPods(5_000);
    const look = (millis: number, ...reports: PodReport[]): string[] =>
      shown(ready.view(reports, new Set(['mute', 'gone', 'new']), at(millis)));
    expect(look(0, aPod('mute'), aPod('gone'))).toEqual(['mute', 'gone', 'new?~']);
    // The one that is new left its last word when it was another process.
    expect(look(1_000, aPod('mute', 8.1), aPod('new', 30))).toEqual(['mute?', 'gone?~', 'new?~']);
    expect(look(9_000, aPod('mute', 16.1), aPod('new', 38))).toEqual(['mute?~', 'gone?~', 'new?~']);
  });

  it('are the last ones for a while when all are gone at once, and none after it', () => {
    const ready = new ReadyPods(5_000);
    ready.view([aPod('a')], new Set(['a']), at(0));
    for (const millis of [1_000, 3_500, 5_999]) {
      expect(shown(ready.view([aPod('a')], new Set(), at(millis)))).toEqual(['a']);
    }
    expect(shown(ready.view([aPod('a')], new Set(), at(6_000)))).toEqual([]);
  });

  it('fail for a while before that counts, and the while begins anew when they did not', () => {
    const ready = new ReadyPods(5_000);
    const failingAt = (nowMillis: number, decisions: 'ok' | 'failing'): boolean[] => {
      const { acknowledgement, heartbeatMicros } = aPod('a');
      const report = { acknowledgement: { ...acknowledgement, decisions }, heartbeatMicros };
      return ready.view([report], new Set(['a']), at(nowMillis)).map(({ isFailing }) => isFailing);
    };
    expect([failingAt(0, 'failing'), failingAt(4_999, 'failing'), failingAt(5_000, 'failing')]).toEqual([
      [false],
      [false],
      [true],
    ]);
    expect([failingAt(6_000, 'ok'), failingAt(7_000, 'failing')]).toEqual([[false], [false]]);
  });
});
