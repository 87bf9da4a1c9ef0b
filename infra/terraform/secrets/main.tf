# A secret is known here by its name and the path of its file; its value goes from the file to the gateway and never through the state.
# A secret with another value has another name, so that functions roll with it and a roll-back finds the old one.
locals {
  access = {
    SKYTALLY_GATEWAY               = var.gateway_url
    SKYTALLY_GATEWAY_PASSWORD_FILE = var.password_file
    SKYTALLY_GATEWAY_CA_FILE       = var.ca_file
  }
}

resource "terraform_data" "handed" {
  for_each = var.files

  input = {
    cli    = var.cli
    name   = each.key
    access = local.access
  }
  triggers_replace = [each.value]

  provisioner "local-exec" {
    command     = "${var.cli} deploy secret \"$NAME\" \"$FILE\""
    environment = merge(local.access, { NAME = each.key, FILE = each.value })
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "${self.input.cli} deploy remove-secret \"$NAME\""
    environment = merge(self.input.access, { NAME = self.input.name })
  }
}
