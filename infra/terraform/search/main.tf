# No provider for search engines can be had everywhere, so their objects are made by `skytally search-setup`, which may be repeated. Documents
# stay when this is destroyed; the API keys or users end.
locals {
  access = {
    SKYTALLY_DOCUMENTS         = var.documents_url
    SKYTALLY_DOCUMENTS_CA_FILE = var.ca_file
    SKYTALLY_DOCUMENTS_PREFIX  = var.prefix
    SEARCH_USER                = var.user
    SEARCH_PASSWORD_FILE       = var.password_file
  }

  administrator = "--user \"$SEARCH_USER\" --password-file \"$SEARCH_PASSWORD_FILE\""
  setup         = "${var.cli} search-setup ${local.administrator}${var.ilm_days > 0 ? " --ilm-days ${var.ilm_days}" : ""}"
}

resource "terraform_data" "installed" {
  triggers_replace = [var.documents_url, var.prefix, var.image, var.ilm_days]

  provisioner "local-exec" {
    command     = local.setup
    environment = local.access
  }
}

# Keys that are renewed go on until their own end: functions roll to the new ones meanwhile.
resource "terraform_data" "keys" {
  triggers_replace = [var.documents_url, var.prefix, var.renewed, var.key_days]
  depends_on       = [terraform_data.installed]

  provisioner "local-exec" {
    command     = "${local.setup} --days ${var.key_days} --out \"$OUT\""
    environment = merge(local.access, { OUT = "${var.keys_folder}/${var.renewed}" })
  }
}

resource "terraform_data" "revoked_at_the_end" {
  input = {
    command = "${var.cli} search-revoke ${local.administrator}"
    access  = local.access
  }

  provisioner "local-exec" {
    when        = destroy
    command     = self.input.command
    environment = self.input.access
  }
}
