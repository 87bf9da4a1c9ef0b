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
    condition     = length(output.specifications) == length(jsondecode(file("catalog.json")).functions)
    error_message = "each function of the list is deployed"
  }

  assert {
    condition     = output.specifications["statement"].envVars["SKYTALLY_OBJECTS"] == "s3://other"
    error_message = "a function's own setting wins"
  }

  assert {
    condition     = output.specifications["statement"].secrets == tolist(["master-20261101000000", "search-readers-1"])
    error_message = "a function mounts what all mount, and its own"
  }

  assert {
    condition     = length(output.specifications["agent"].secrets) == 0
    error_message = "what needs no key gets none"
  }

  assert {
    condition     = output.specifications["secret-sweep"].annotations["schedule"] == "*/5 * * * *"
    error_message = "a timer has its schedule"
  }

  assert {
    condition     = length(output.specifications["panda-collect"].annotations) == 0
    error_message = "a timer that is off has none"
  }

  assert {
    condition     = alltrue([for specification in values(output.specifications) : specification.readOnlyRootFilesystem])
    error_message = "no function can write its root file system"
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
