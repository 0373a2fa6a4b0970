/** Values by series, as the text says them: `name{label="value"}` or `name`. Comments are left out. */
export function parseMetrics(text: string): Map<string, number> {
  const values = new Map<string, number>();
  for (const line of text.split('\n')) {
    const space = line.lastIndexOf(' ');
    if (space > 0 && !line.startsWith('#')) values.set(line.slice(0, space), Number(line.slice(space + 1)));
  }
  return values;
}

export async function scrape(url: string): Promise<Map<string, number>> {
  const response = await fetch(url).catch((error: unknown) => {
    throw new Error('its metrics cannot be read: it does not answer', { cause: error });
  });
  if (response.status !== 200) throw new Error(`its metrics cannot be read: status ${response.status}`);
  return parseMetrics(await response.text());
}
