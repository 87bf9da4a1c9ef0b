variables {
  timers = { sweep = "*/5 * * * *", forget = "17 3 * * *" }
}

run "usual" {
  assert {
    condition     = output.schedules["sweep"] == "*/5 * * * *"
    error_message = "a timer keeps its usual schedule"
  }
}

run "changed_and_off" {
  variables {
    overrides = { sweep = "", forget = "0 4 * * 0" }
  }

  assert {
    condition     = output.schedules == { forget = "0 4 * * 0" }
    error_message = "an override wins, and an empty one switches off"
  }
}

run "no_cron" {
  command = plan

  variables {
    overrides = { sweep = "every 5 minutes" }
  }

  expect_failures = [var.overrides]
}

run "no_timer" {
  command = plan

  variables {
    overrides = { statement = "0 4 * * 0" }
  }

  expect_failures = [var.overrides]
}
