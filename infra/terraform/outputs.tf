output "urls" {
  description = "Where each function answers."
  value       = module.functions.urls
}

output "schedules" {
  description = "When each timer function is called, cron in UTC."
  value       = module.functions.schedules
}
