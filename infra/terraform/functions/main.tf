# No provider for OpenFaaS can be had, so all functions are one terraform_data whose step is the idempotent `skytally deploy apply`: it leaves
# alone what is so already, changes what runs one after another, waits until each answers, and ends at the first that does not.
# What is there (presence) and how it is set (deployed) are two resources: a change then replaces only the second, whose step changes the
# running functions in place, and no request meets a gap. Destroying removes by the first.
locals {
  catalog = jsondecode(file("${path.module}/catalog.json"))

  deployment = {
    image             = var.image
    settings          = var.settings
    secrets           = sort(var.secrets)
    function_settings = var.function_settings
    function_secrets  = var.function_secrets
    schedules         = var.schedules
    secret_files      = var.secret_files
  }

  access = {
    SKYTALLY_GATEWAY               = var.gateway_url
    SKYTALLY_GATEWAY_PASSWORD_FILE = var.password_file
    SKYTALLY_GATEWAY_CA_FILE       = var.ca_file
  }
}

module "schedules" {
  source = "../schedules"

  timers    = { for function in local.catalog.functions : function.service => function.schedule if function.schedule != null }
  overrides = var.schedules
}

resource "terraform_data" "presence" {
  input = {
    cli    = var.cli
    access = local.access
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "${self.input.cli} deploy remove --all"
    environment = self.input.access
  }
}

resource "terraform_data" "deployed" {
  triggers_replace = [sha256(jsonencode(local.deployment)), terraform_data.presence.id]

  provisioner "local-exec" {
    command     = "printf %s \"$DEPLOYMENT\" | ${var.cli} deploy apply -"
    environment = merge(local.access, { DEPLOYMENT = jsonencode(local.deployment) })
  }
}
