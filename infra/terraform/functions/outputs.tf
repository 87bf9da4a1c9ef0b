output "urls" {
  description = "Where each function answers."
  value       = { for function in local.catalog.functions : function.service => "${var.gateway_url}/function/${function.service}" }
}

output "schedules" {
  description = "When each timer function is called, cron in UTC."
  value       = module.schedules.schedules
}

output "deployment" {
  description = "What is wanted, as `skytally deploy apply` and `skytally deploy status` read it."
  value       = local.deployment
}
