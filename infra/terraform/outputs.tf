output "urls" {
  description = "Where each function answers."
  value       = module.functions.urls
}

output "schedules" {
  description = "When each timer function is called, cron in UTC."
  value       = module.functions.schedules
}

output "deployment" {
  description = "What is wanted, as `skytally deploy apply` and `skytally deploy status` read it."
  value       = module.functions.deployment
}

output "secrets_folder" {
  description = "Where functions find the files that they mount, for settings that name one."
  value       = local.mounted
}
