const SECRETS = ['api_key', 'apiKey', 'x-api-key', 'authorization', 'pepper'];

/**
 * What pino leaves out of every line, down to the third level. No line says any of this: it is a second line of defence,
 * for an object that is logged as a whole one day.
 */
export const REDACTION = {
  paths: SECRETS.flatMap((name) => [`["${name}"]`, `*["${name}"]`, `*.*["${name}"]`]),
  censor: '[secret]',
};
