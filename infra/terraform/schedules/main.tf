# cron-connector reads two annotations of a function and calls it by them: an empty POST, at most once, without catching up.
locals {
  schedules = { for service, usual in var.timers : service => lookup(var.overrides, service, usual) }
}
