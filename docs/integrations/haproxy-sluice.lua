-- The action `http-request lua.sluice URL`: asks a limiter whether the request may pass and leaves the answer in
-- txn.sluice_status (200, 429, 401, 400), txn.sluice_retry, txn.sluice_limit and txn.sluice_policy.
-- Without an answer in time nothing is set: the request passes.
local TIMEOUT_MILLIS = 100

-- What rules may look at besides method, path, host and address. Anything else of the client stays here.
local PASSED_ON = { 'x-api-key', 'authorization', 'x-request-id' }

local function first(headers, name)
  local values = headers and headers[name]
  return values and values[0]
end

core.register_action('sluice', { 'http-req' }, function(txn, url)
  local headers = {
    ['x-original-method'] = { txn.sf:method() },
    ['x-original-uri'] = { txn.sf:path() },
    ['x-forwarded-for'] = { txn.sf:src() },
  }
  local received = txn.http:req_get_headers()
  local host = first(received, 'host')
  if host then
    headers['x-forwarded-host'] = { host }
  end
  for _, name in ipairs(PASSED_ON) do
    local value = first(received, name)
    if value then
      headers[name] = { value }
    end
  end
  local answered, answer = pcall(function()
    return core.httpclient():get({ url = url, headers = headers, timeout = TIMEOUT_MILLIS })
  end)
  if not answered or not answer or not answer.status or answer.status >= 500 or answer.status < 200 then
    return
  end
  txn:set_var('txn.sluice_status', answer.status)
  for variable, name in pairs({ retry = 'retry-after', limit = 'ratelimit', policy = 'ratelimit-policy' }) do
    local value = first(answer.headers, name)
    if value then
      txn:set_var('txn.sluice_' .. variable, value)
    end
  end
end, 1)
