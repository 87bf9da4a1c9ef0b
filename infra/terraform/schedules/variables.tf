variable "timers" {
  description = "When each timer function is called usually, cron in UTC, by service name."
  type        = map(string)
}

variable "overrides" {
  description = "Other schedules of single timers, cron in UTC, by service name; an empty one switches the timer off."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for schedule in values(var.overrides) : schedule == "" || can(regex("^[0-9*,/-]+( [0-9*,/-]+){4}$", schedule))])
    error_message = "a schedule is five fields of numbers, as in \"*/15 * * * *\", or empty."
  }

  validation {
    condition     = length(setsubtract(keys(var.overrides), keys(var.timers))) == 0
    error_message = "only timer functions have a schedule: ${join(", ", keys(var.timers))}."
  }
}
