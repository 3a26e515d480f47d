output "environment" {
  description = "Settings of every verb of aup-worker; eval it in a shell."
  value       = aws_cloudformation_stack.data.outputs["Environment"]
}

output "publish" {
  description = "Publishes a version of a policy."
  value       = aws_cloudformation_stack.data.outputs["Publish"]
}

output "push" {
  description = "Sends one acceptance."
  value       = aws_cloudformation_stack.data.outputs["Push"]
}

output "replay" {
  description = "Shows what a replay of the dead letters would do; replays them without --dry-run."
  value       = aws_cloudformation_stack.data.outputs["Replay"]
}

output "logs" {
  description = "Follows the logs of the service, if there is one."
  value       = one(aws_cloudformation_stack.service[*].outputs["Logs"])
}

output "dashboard_url" {
  description = "Dashboard in CloudWatch, if alarms is not null."
  value       = one(aws_cloudformation_stack.alarms[*].outputs["DashboardUrl"])
}

output "worker_policy_arn" {
  description = "Permissions of the worker, to attach to the role of a host or a Kubernetes service account."
  value       = aws_cloudformation_stack.roles.outputs["WorkerPolicyArn"]
}

output "stacks" {
  description = "Outputs of every stack, by template."
  value = {
    data      = aws_cloudformation_stack.data.outputs
    roles     = aws_cloudformation_stack.roles.outputs
    service   = one(aws_cloudformation_stack.service[*].outputs)
    scaling   = one(aws_cloudformation_stack.scaling[*].outputs)
    alarms    = one(aws_cloudformation_stack.alarms[*].outputs)
    audit     = one(aws_cloudformation_stack.audit[*].outputs)
    endpoints = one(aws_cloudformation_stack.endpoints[*].outputs)
    key       = one(aws_cloudformation_stack.key[*].outputs)
  }
}
