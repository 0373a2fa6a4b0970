-- Health of every kind of sluice.dev for Argo CD: resource.customizations.health.sluice.dev_<Kind> in argocd-cm.
-- An accepted change that pods are still loading is Progressing; a refused one is Degraded, although the last good
-- one stays in force. A declared incident is information, and Healthy.
local health = { status = "Progressing", message = "Waiting for the operator" }
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    return { status = "Degraded", message = condition.message }
  end
  if condition.type == "Ready" then
    health.message = condition.message
    if condition.status == "True" then
      health.status = "Healthy"
    end
  end
end
return health
