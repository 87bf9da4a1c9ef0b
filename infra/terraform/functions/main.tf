# No provider for OpenFaaS can be had, so each function is a terraform_data whose steps are the idempotent commands of `skytally deploy`.
# What is there (presence) and how it is set (deployed) are two resources: a change then replaces only the second, whose step changes
# the running function in place, and no request meets a gap. Destroying removes by the first.
locals {
  catalog = jsondecode(file("${path.module}/catalog.json"))

  # Keys go to functions that use them.
  other_secrets = [for name in var.secrets : name if !can(regex("^(master|wrapping|token)-[0-9]{14}$", name))]

  specifications = {
    for function in local.catalog.functions : function.service => {
      service = function.service
      image   = var.image
      envVars = merge({ SKYTALLY_KEYS = local.catalog.secrets_folder }, var.settings, lookup(var.function_settings, function.name, {}), {
        FUNCTION_TARGET = function.name
      })
      secrets                = sort(setunion(function.keys ? var.secrets : local.other_secrets, lookup(var.function_secrets, function.name, [])))
      labels                 = { app = "skytally" }
      annotations            = lookup(module.schedules.annotations, function.service, {})
      limits                 = { memory = local.catalog.memory.limit }
      requests               = { memory = local.catalog.memory.request }
      readOnlyRootFilesystem = true
    }
  }

  access = {
    SKYTALLY_GATEWAY               = var.gateway_url
    SKYTALLY_GATEWAY_PASSWORD_FILE = var.password_file
  }
}

module "schedules" {
  source = "../schedules"

  timers    = { for function in local.catalog.functions : function.service => function.schedule if function.schedule != null }
  overrides = var.schedules
}

resource "terraform_data" "presence" {
  for_each = local.specifications

  input = {
    cli     = var.cli
    service = each.key
    access  = local.access
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "${self.input.cli} deploy remove ${self.input.service}"
    environment = self.input.access
  }
}

resource "terraform_data" "deployed" {
  for_each = local.specifications

  triggers_replace = [sha256(jsonencode(each.value)), terraform_data.presence[each.key].id]

  provisioner "local-exec" {
    command     = "printf %s \"$SPECIFICATION\" | ${var.cli} deploy function"
    environment = merge(local.access, { SPECIFICATION = jsonencode(each.value) })
  }
}
