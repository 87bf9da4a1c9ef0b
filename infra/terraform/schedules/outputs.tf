output "schedules" {
  description = "When each timer function is called, cron in UTC; those that are off are missing."
  value       = { for service, schedule in local.schedules : service => schedule if schedule != "" }
}
