output "urls" {
  description = "Where each function answers."
  value       = { for service in keys(local.specifications) : service => "${var.gateway_url}/function/${service}" }
}

output "schedules" {
  description = "When each timer function is called, cron in UTC."
  value       = { for function in local.catalog.functions : function.service => function.schedule if function.schedule != null }
}
