// The shape of a decision request, looked at by hand: the schema takes five times as long, for every request. What this
// says no to, the schema judges and words; a test holds that both say the same.
import { MAX_API_KEY_LENGTH } from '../../policy/api-key.ts';
import { parseIP } from '../../policy/ip.ts';
import { normalisePath } from '../../policy/path.ts';
import { REQUEST_ID } from '../door.ts';
import { type DecisionRequest, MAX_BATCH, MAX_COST, MAX_PAIRS, METHOD } from './request.ts';

/** Whether the schema of a decision request takes this, as it is. The value is one that JSON.parse gave. */
export function isDecisionRequest(value: unknown): value is DecisionRequest {
  if (!isObject(value)) return false;
  for (const name of Object.keys(value)) if (!isField(name, value[name])) return false;
  return value['domain'] !== undefined;
}

/** The same for many. */
export function isBatchRequest(value: unknown): value is { checks: DecisionRequest[] } {
  if (!isObject(value)) return false;
  const { checks } = value;
  if (!Array.isArray(checks) || checks.length === 0 || checks.length > MAX_BATCH) return false;
  return Object.keys(value).length === 1 && checks.every(isDecisionRequest);
}

function isField(name: string, value: unknown): boolean {
  switch (name) {
    case 'domain':
      return isText(value, 253);
    case 'api_key':
      return isText(value, MAX_API_KEY_LENGTH);
    case 'consumer':
    case 'tenant':
      return isText(value, 256);
    case 'tier':
      return isText(value, 63);
    case 'ip':
      return isText(value, 64) && parseIP(value) !== undefined;
    case 'method':
      return typeof value === 'string' && METHOD.test(value);
    case 'path':
      return isText(value, 8192) && normalisePath(value) !== undefined;
    case 'host':
      return isText(value, 255);
    case 'headers':
    case 'attributes':
    case 'descriptors':
      return isPairs(value);
    case 'cost':
      return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= MAX_COST;
    case 'mode':
      return value === 'consume' || value === 'peek';
    case 'refundable':
      return typeof value === 'boolean';
    case 'request_id':
      return typeof value === 'string' && REQUEST_ID.test(value);
    default:
      return false;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown, max: number, min = 1): value is string {
  return typeof value === 'string' && value.length >= min && value.length <= max && value.isWellFormed();
}

function isPairs(value: unknown): boolean {
  if (!isObject(value)) return false;
  const names = Object.keys(value);
  if (names.length > MAX_PAIRS) return false;
  for (const name of names) {
    // The schema leaves it out.
    if (name === '__proto__' || !isText(name, 64) || !isText(value[name], 8192, 0)) return false;
  }
  return true;
}
