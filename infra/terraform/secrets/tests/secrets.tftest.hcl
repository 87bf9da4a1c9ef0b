variables {
  gateway_url   = "http://127.0.0.1:9"
  password_file = "password"
}

run "by_reference" {
  command = plan

  variables {
    files = { "master-20261101000000" = "keys/master-20261101000000" }
  }

  assert {
    condition     = output.names == toset(["master-20261101000000"])
    error_message = "functions are told names"
  }
}

run "odd_name" {
  command = plan

  variables {
    files = { "../password" = "password" }
  }

  expect_failures = [var.files]
}
