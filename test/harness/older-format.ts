// Preloaded into a limiter (`node --import`), this makes it one of an earlier version: it reads a lower format only.
import { registerHooks } from 'node:module';

registerHooks({
  load: (url, context, next) => {
    const loaded = next(url, context);
    if (!url.endsWith('/policy/documents.ts')) return loaded;
    const { source = '' } = loaded;
    const text = typeof source === 'string' ? source : new TextDecoder().decode(source);
    const older = text.replace('export const FORMAT = 1;', 'export const FORMAT = 0;');
    if (older === text) throw new Error('the format of documents is not where it was');
    return { ...loaded, source: older };
  },
});
