output "urls" {
  description = "Where each function answers."
  value       = { for service in keys(local.specifications) : service => "${var.gateway_url}/function/${service}" }
}

output "schedules" {
  description = "When each timer function is called, cron in UTC."
  value       = module.schedules.schedules
}

output "specifications" {
  description = "What the gateway is told of each function."
  value       = local.specifications
}
