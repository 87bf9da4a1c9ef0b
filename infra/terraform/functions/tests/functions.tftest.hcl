variables {
  gateway_url   = "http://127.0.0.1:9"
  password_file = "password"
  image         = "registry.example.org:5000/skytally:1"
  secrets       = ["master-20261101000000"]
  settings      = { SKYTALLY_OBJECTS = "s3://bucket" }
}

run "every_function_by_the_one_list" {
  command = plan

  variables {
    function_settings = { statement = { SKYTALLY_OBJECTS = "s3://other" } }
    function_secrets  = { statement = ["search-readers-1"] }
    schedules         = { "panda-collect" = "" }
  }

  assert {
    condition     = length(output.urls) == length(jsondecode(file("catalog.json")).functions)
    error_message = "each function of the list is deployed"
  }

  assert {
    condition     = output.deployment.function_settings["statement"].SKYTALLY_OBJECTS == "s3://other"
    error_message = "a function's own setting is handed on"
  }

  assert {
    condition     = output.deployment.function_secrets["statement"] == tolist(["search-readers-1"])
    error_message = "a function's own secret is handed on"
  }

  assert {
    condition     = !contains(keys(output.schedules), "panda-collect") && output.schedules["secret-sweep"] == "*/5 * * * *"
    error_message = "a timer has its schedule, and one that is off has none"
  }
}

run "a_gateway_with_a_path" {
  command = plan

  variables {
    gateway_url = "http://127.0.0.1:9/ui"
  }

  expect_failures = [var.gateway_url]
}

run "an_image_without_a_tag" {
  command = plan

  variables {
    image = "registry.example.org:5000/skytally"
  }

  expect_failures = [var.image]
}

run "a_secret_as_a_setting" {
  command = plan

  variables {
    settings = { AWS_SECRET_ACCESS_KEY = "x" }
  }

  expect_failures = [var.settings]
}

run "a_setting_of_something_else" {
  command = plan

  variables {
    settings = { LD_PRELOAD = "x" }
  }

  expect_failures = [var.settings]
}
